// Package test proves the installed package in booted systemd: the main job from installation to stop, the package's
// own life, and each setting of the units by what happens without it. Its tests always compile; they run only
// with FDT_BED=1, as root, on the package that FDT_DEB names.
package test
