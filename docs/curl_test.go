package docs_test

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCurl runs the curl commands of the pages, in their order, against one
// server, and holds that each REST route is described and asked.
func TestCurl(t *testing.T) {
	for _, needed := range []string{"bash", "curl", "tar", "sed"} {
		if _, err := exec.LookPath(needed); err != nil {
			t.Skipf("%s is not here", needed)
		}
	}
	g := build(t)
	at := g.serve(t)
	for _, path := range []string{"api.md", "serving.md"} {
		script := curls(read(t, path))
		if script == "" {
			t.Errorf("%s has no curl command", path)
		}
		script = strings.ReplaceAll(script, "localhost:8000", at.http)
		cmd := exec.CommandContext(t.Context(), "bash", "-euxo", "pipefail", "-c",
			`curl() { command curl --fail-with-body "$@"; }`+"\n"+script)
		cmd.Dir = root
		cmd.Env = append(os.Environ(), "TMPDIR="+t.TempDir(), "PATH="+filepath.Dir(g.binary)+string(os.PathListSeparator)+os.Getenv("PATH"))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", path, err, tail(string(out)))
		}
	}
	checkRoutes(t, read(t, "api.md"))
}

// curls are the lines of a page's shell blocks that use curl, and those that
// prepare them.
func curls(text string) string {
	var lines []string
	for _, block := range shell.FindAllStringSubmatch(text, -1) {
		if curlLine.MatchString(block[1]) {
			lines = append(lines, block[1])
		}
	}
	return strings.Join(lines, "")
}

var curlLine = regexp.MustCompile(`(?m)^(\w+=\$\()?curl `)

// tail is what a failed script said last.
func tail(out string) string { return out[max(0, len(out)-3000):] }

var (
	asked    = regexp.MustCompile(`curl -s (?:-X (\w+) )?"?localhost:8000(/v1/[^\s?")]*)(.*)`)
	variable = regexp.MustCompile(`\{\w+\}`)
)

// checkRoutes holds the page to the OpenAPI description: each route has a line
// in a table, or, as those that are not there yet, is named; each that is there
// is asked.
func checkRoutes(t *testing.T, text string) {
	var described struct {
		Paths map[string]map[string]struct {
			Summary string `json:"summary"`
		} `json:"paths"`
	}
	if err := json.Unmarshal([]byte(read(t, filepath.Join(root, "api", "openapi.json"))), &described); err != nil {
		t.Fatal(err)
	}
	for path, verbs := range described.Paths {
		for verb, operation := range verbs {
			verb = strings.ToUpper(verb)
			if strings.Contains(operation.Summary, "not there yet") {
				if name := path[strings.Index(path, ":"):]; !strings.Contains(text, name) {
					t.Errorf("api.md does not name %s %s", verb, path)
				}
				continue
			}
			if !strings.Contains(text, "`"+verb+" "+path+"`") {
				t.Errorf("api.md does not describe %s %s", verb, path)
			}
			if !isAsked(text, verb, path) {
				t.Errorf("api.md has no curl of %s %s", verb, path)
			}
		}
	}
}

func isAsked(text, verb, path string) bool {
	pattern := regexp.MustCompile("^" + variable.ReplaceAllString(path, `[^/]+`) + "$")
	for _, m := range asked.FindAllStringSubmatch(text, -1) {
		method := m[1]
		if method == "" {
			method = "GET"
			if strings.Contains(m[3], " -d ") || strings.Contains(m[3], " -F ") || strings.Contains(m[3], " --data-binary ") {
				method = "POST"
			}
		}
		if method == verb && pattern.MatchString(m[2]) {
			return true
		}
	}
	return false
}

// addresses are those that a server listens on.
type addresses struct{ http, grpc, metrics, partners string }

var readyLine = regexp.MustCompile(`^ready http=(\S+) grpc=(\S+) metrics=(\S+) partners=(\S+)$`)

// serve runs the server until the test ends.
func (g program) serve(t *testing.T) addresses {
	t.Helper()
	cmd := exec.Command(g.binary, "up", "--listen-http", ":0", "--listen-grpc", ":0", "--listen-metrics", ":0", "--partners", ":0", "--home", g.home)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	at, ended := make(chan addresses, 1), make(chan struct{})
	go func() {
		defer close(ended)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			if m := readyLine.FindStringSubmatch(lines.Text()); m != nil {
				at <- addresses{m[1], m[2], m[3], m[4]}
			}
		}
	}()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("galley up ends with %v", err)
		}
	})
	select {
	case found := <-at:
		return found
	case <-ended:
	case <-time.After(time.Minute):
	}
	t.Fatal("galley up is not ready")
	return addresses{}
}
