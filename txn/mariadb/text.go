package mariadb

import "strings"

// leaves tells of a statement that it may leave something in the session which its next begin would not take, or which others wait for
// until then. It sees the statement only, not what routines and triggers do.
func leaves(text string) bool {
	switch word, _ := verb(text); word {
	case "SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "WITH", "VALUES", "CALL", "DO":
		upper := strings.ToUpper(text)
		return strings.Contains(upper, "GET_LOCK") || strings.Contains(upper, "@")
	}
	return true
}

// temporary tells of a statement that it may make or drop a temporary table: procedures often do.
func temporary(text string) bool {
	first, rest := verb(text)
	if first == "CREATE" || first == "DROP" {
		return strings.Contains(strings.ToUpper(rest), "TEMPORARY")
	}
	return first == "CALL"
}

// verb returns a statement's first word in upper case, behind comments and parentheses, and what follows it.
func verb(text string) (word, rest string) {
	text = skip(text, "(")
	end := 0
	for end < len(text) && (text[end] == '_' || text[end]|0x20 >= 'a' && text[end]|0x20 <= 'z') {
		end++
	}
	return strings.ToUpper(text[:end]), text[end:]
}

// skip cuts white space, comments and the characters of more from the front.
func skip(text, more string) string {
	for {
		text = strings.TrimLeft(text, " \t\r\n\f\v"+more)
		switch {
		case strings.HasPrefix(text, "#"), strings.HasPrefix(text, "-- "):
			_, text, _ = strings.Cut(text, "\n")
		case strings.HasPrefix(text, "/*") && !strings.HasPrefix(text, "/*!") && !strings.HasPrefix(text, "/*M!"): // those are run
			_, text, _ = strings.Cut(text[2:], "*/")
		default:
			return text
		}
	}
}
