package clients

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
)

// modules returns a directory with the packages that a package-lock.json names, as npm ci would install them. They
// are fetched from the registry once and kept in the cache directory.
func modules(ctx context.Context, lock, cache string) (string, error) {
	data, err := os.ReadFile(lock)
	if err != nil {
		return "", err
	}
	var locked struct {
		Packages map[string]struct{ Resolved, Integrity string }
	}
	if err := json.Unmarshal(data, &locked); err != nil {
		return "", fmt.Errorf("%s: %w", lock, err)
	}
	sum := sha256.Sum256(data)
	dir := filepath.Join(cache, "npm-"+hex.EncodeToString(sum[:6]))
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return "", err
	}
	partial, err := os.MkdirTemp(cache, "npm-*.partial")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(partial)
	if err := os.Chmod(partial, 0o755); err != nil {
		return "", err
	}
	for name, p := range locked.Packages {
		if p.Resolved == "" {
			continue // the root
		}
		body, err := fetch(ctx, p.Resolved, p.Integrity)
		if err == nil {
			err = unpack(body, filepath.Join(partial, filepath.FromSlash(name)))
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w", p.Resolved, err)
		}
	}
	if err := os.Rename(partial, dir); err != nil && !errors.Is(err, os.ErrExist) { // another was faster
		return "", err
	}
	return dir, nil
}

// fetch gets a file and holds it against its Subresource Integrity.
func fetch(ctx context.Context, url, integrity string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %w", response.Status, err)
	}
	if sum := sha512.Sum512(body); "sha512-"+base64.StdEncoding.EncodeToString(sum[:]) != integrity {
		return nil, errors.New("it is not what the lock file says")
	}
	return body, nil
}

// unpack unpacks a package, whose files are all in one directory of any name.
func unpack(body []byte, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	zipped, err := gzip.NewReader(bytes.NewReader(body))
	if err != nil {
		return err
	}
	for files := tar.NewReader(zipped); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, name, _ := strings.Cut(path.Clean(header.Name), "/")
		if header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(files)
		if err == nil {
			err = root.MkdirAll(path.Dir(name), 0o755)
		}
		if err == nil {
			err = root.WriteFile(name, data, 0o644)
		}
		if err != nil {
			return err
		}
	}
}
