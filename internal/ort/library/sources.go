package library

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// sources are those that have the library for p, in the order to try.
func sources(p platform) []source {
	var all []source
	if pin, ok := npmPins[p]; ok {
		all = append(all, npm(pin))
	}
	if pin, ok := pipPins[p]; ok {
		all = append(all, pip(pin, wheelPlatforms[p]))
	}
	if pin, ok := releasePins[p]; ok {
		name := releaseName(releasePlatforms[p]) + ".tgz"
		all = append(all, release(pin, "https://github.com/microsoft/onnxruntime/releases/download/v"+Version+"/"+name, http.DefaultClient))
	}
	return all
}

// npm has the package manager fetch the package of the Node.js binding, which
// carries the library for every platform. Nothing in it is run.
func npm(p pin) source {
	args := []string{"pack", "onnxruntime-node@" + Version, "--ignore-scripts", "--silent", "--no-update-notifier"}
	return source{name: "npm", pin: p, what: "npm " + strings.Join(args[:2], " "),
		fetch: func(ctx context.Context, dir string) (string, error) {
			if err := call(ctx, dir, append([]string{"npm"}, args...)); err != nil {
				return "", err
			}
			return onlyFile(dir, ".tgz")
		}}
}

// pip has the package manager fetch the wheel of the Python binding. It is
// told which Python the wheel is for, so that any Python that is there fetches
// the one whose digest is known.
func pip(p pin, wheel string) source {
	args := []string{"download", "onnxruntime==" + Version, "--no-deps", "--only-binary=:all:", "--python-version", "3.12",
		"--implementation", "cp", "--abi", "cp312", "--platform", wheel,
		"--disable-pip-version-check", "--no-input", "--quiet", "--dest", "."}
	return source{name: "pip", pin: p, what: "pip " + strings.Join(args[:2], " "),
		fetch: func(ctx context.Context, dir string) (string, error) {
			var failure error
			for _, command := range [][]string{{"python3", "-m", "pip"}, {"python", "-m", "pip"}, {"pip3"}, {"pip"}} {
				err := call(ctx, dir, append(command, args...))
				if err == nil {
					return onlyFile(dir, ".whl")
				}
				// What a pip that is there says is worth more than that another is not.
				if failure == nil || errors.Is(failure, exec.ErrNotFound) {
					failure = err
				}
				if ctx.Err() != nil {
					break
				}
			}
			return "", failure
		}}
}

// release fetches an archive of the project's own release page.
func release(p pin, url string, client *http.Client) source {
	return source{name: "release", pin: p, what: "download " + url,
		fetch: func(ctx context.Context, dir string) (string, error) {
			ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
			defer cancel()
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return "", err
			}
			response, err := client.Do(request)
			if err != nil {
				return "", err
			}
			defer response.Body.Close()
			if response.StatusCode != http.StatusOK {
				return "", fmt.Errorf("%s answers %s", url, response.Status)
			}
			if response.Request.URL.Scheme != "https" {
				return "", fmt.Errorf("%s leads to an address without encryption", url)
			}
			path := filepath.Join(dir, "release.tgz")
			f, err := os.Create(path)
			if err != nil {
				return "", err
			}
			defer f.Close()
			n, err := io.Copy(f, io.LimitReader(response.Body, maxArchive+1))
			if err != nil {
				return "", err
			}
			if n > maxArchive {
				return "", fmt.Errorf("%s is larger than %d MiB", url, maxArchive>>20)
			}
			return path, f.Close()
		}}
}

// call runs a program in dir; its error ends with the program's last words.
func call(ctx context.Context, dir string, command []string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var words bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &words, &words
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("%s is not installed: %w", command[0], exec.ErrNotFound)
	}
	if err != nil {
		return fmt.Errorf("%s: %w: %s", command[0], err, lastWords(words.String()))
	}
	return nil
}

// lastWords shortens a program's output to its last lines.
func lastWords(s string) string {
	const most = 400
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > most {
		s = "…" + strings.ToValidUTF8(s[len(s)-most:], "")
	}
	return s
}

// onlyFile returns the one file with the suffix that a program left in dir.
func onlyFile(dir, suffix string) (string, error) {
	names, err := fs.Glob(os.DirFS(dir), "*"+suffix)
	if err != nil {
		return "", err
	}
	if len(names) != 1 {
		return "", fmt.Errorf("%d files *%s were downloaded, want one", len(names), suffix)
	}
	path := filepath.Join(dir, names[0])
	info, err := os.Lstat(path)
	if err != nil {
		return "", err
	}
	if !info.Mode().IsRegular() || info.Size() > maxArchive {
		return "", fmt.Errorf("what was downloaded is no file of at most %d MiB", maxArchive>>20)
	}
	return path, nil
}
