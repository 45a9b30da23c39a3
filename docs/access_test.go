package docs_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"galley/internal/auth"
)

// cells are the cells of a table's row.
func cells(row string) []string {
	parts := strings.Split(strings.Trim(row, "|"), "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}

// The table of roles in docs/operations.md is the one that the server asks.
func TestRolesAreAsDocumented(t *testing.T) {
	text := read(t, filepath.Join(root, "docs", "operations.md"))
	_, table, ok := strings.Cut(text, "| permission | what |")
	if !ok {
		t.Fatal("docs/operations.md has no table of permissions")
	}
	lines := strings.Split(table, "\n")
	var roles []auth.Role
	for _, name := range cells(lines[0]) {
		roles = append(roles, auth.Role(name))
	}
	if !slices.Equal(roles, auth.Roles()) {
		t.Fatalf("the table's columns are %v", roles)
	}
	var permissions []auth.Permission
	for _, line := range lines[2:] {
		if !strings.HasPrefix(line, "|") {
			break
		}
		row := cells(line)
		p := auth.Permission(strings.Trim(row[0], "`"))
		permissions = append(permissions, p)
		for i, r := range roles {
			if (row[i+2] == "yes") != r.May(p) {
				t.Errorf("%s may %s: the page says %q", r, p, row[i+2])
			}
		}
	}
	if !slices.Equal(permissions, auth.Permissions()) {
		t.Errorf("the table's rows are %v", permissions)
	}
}
