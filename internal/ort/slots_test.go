package ort_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestSlots compares the slots of api.h with the interface's published header,
// which comes with the binding.
func TestSlots(t *testing.T) {
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/yalue/onnxruntime_go").Output()
	if err != nil {
		t.Skipf("the binding's source cannot be found: %v", err)
	}
	header, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "onnxruntime_c_api.h"))
	if err != nil {
		t.Skipf("the binding has no header: %v", err)
	}
	published := slots(t, string(header))
	ours, err := os.ReadFile("api.h")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`slot_(\w+) = (\d+),`).FindAllStringSubmatch(string(ours), -1)
	if len(declared) < 40 {
		t.Fatalf("only %d slots are declared", len(declared))
	}
	for _, d := range declared {
		slot, _ := strconv.Atoi(d[2])
		if slot >= len(published) || published[slot] != d[1] {
			t.Errorf("slot %d is not %s", slot, d[1])
		}
	}
	if version := regexp.MustCompile(`#define ORT_API_VERSION (\d+)`).FindStringSubmatch(string(header)); version == nil || version[1] != "24" {
		t.Errorf("the header's version is %v, package ort asks for 24", version)
	}
}

// slots lists the members of the function table in their order.
func slots(t *testing.T, header string) []string {
	t.Helper()
	_, body, ok := strings.Cut(header, "\nstruct OrtApi {")
	if !ok {
		t.Fatal("the header has no function table")
	}
	body, _, _ = strings.Cut(body, "\n};")
	body = regexp.MustCompile(`(?s)/\*.*?\*/|//[^\n]*`).ReplaceAllString(body, "")
	member := regexp.MustCompile(`^\s*(?:ORT_API2_STATUS\((\w+)|ORT_API_T\([^,]+,\s*(\w+)|ORT_(CLASS_RELEASE)\((\w+)|[^(]*\(\s*ORT_API_CALL\s*\*\s*(\w+)\s*\))`)
	var names []string
	for _, statement := range strings.Split(body, ";") {
		if strings.TrimSpace(statement) == "" {
			continue
		}
		m := member.FindStringSubmatch(statement)
		switch {
		case m == nil:
			t.Fatalf("what is %q?", statement)
		case m[3] != "":
			names = append(names, "Release"+m[4])
		default:
			names = append(names, m[1]+m[2]+m[5])
		}
	}
	return names
}
