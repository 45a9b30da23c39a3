package library

import (
	"debug/elf"
	"debug/macho"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A platform is what a library runs on, in Go's names.
type platform struct{ goos, goarch string }

func (p platform) String() string { return p.goos + "/" + p.goarch }

// inspect tells from a file which platform and version of ONNX Runtime it is,
// without loading it. The version is "unknown" if the file does not tell.
func inspect(path string) (platform, string, error) {
	if f, err := elf.Open(path); err == nil {
		defer f.Close()
		return inspectELF(f, path)
	}
	if f, err := macho.Open(path); err == nil {
		defer f.Close()
		return inspectMachO(f, path)
	}
	return platform{}, "", fmt.Errorf("%s is no shared library, or a damaged one", path)
}

var versionTag = regexp.MustCompile(`^VERS_(\d+\.\d+\.\d+)$`)

// inspectELF reads the version from the tag that the library's symbols carry.
func inspectELF(f *elf.File, path string) (platform, string, error) {
	p := platform{goos: "linux"}
	switch f.Machine {
	case elf.EM_X86_64:
		p.goarch = "amd64"
	case elf.EM_AARCH64:
		p.goarch = "arm64"
	default:
		p.goarch = strings.ToLower(strings.TrimPrefix(f.Machine.String(), "EM_"))
	}
	if f.Type != elf.ET_DYN {
		return p, "", fmt.Errorf("%s is no shared library", path)
	}
	versions, err := f.DynamicVersions()
	if err != nil && f.Section(".gnu.version_d") != nil {
		return p, "", fmt.Errorf("%s is damaged: %w", path, err)
	}
	for _, v := range versions {
		if m := versionTag.FindStringSubmatch(v.Name); m != nil {
			return p, m[1], nil
		}
	}
	return p, versionOfName(path), nil
}

// inspectMachO reads the version from the library's own identification.
func inspectMachO(f *macho.File, path string) (platform, string, error) {
	p := platform{goos: "darwin"}
	switch f.Cpu {
	case macho.CpuAmd64:
		p.goarch = "amd64"
	case macho.CpuArm64:
		p.goarch = "arm64"
	default:
		p.goarch = f.Cpu.String()
	}
	if f.Type != macho.TypeDylib {
		return p, "", fmt.Errorf("%s is no shared library", path)
	}
	const identification = 0xd
	for _, load := range f.Loads {
		raw := load.Raw()
		if len(raw) < 24 || f.ByteOrder.Uint32(raw) != identification {
			continue
		}
		if v := versionOfName(string(raw[min(f.ByteOrder.Uint32(raw[8:]), uint32(len(raw))):])); v != unknown {
			return p, v, nil
		}
		if v := dylibVersion(f.ByteOrder, raw[16:]); v != "0.0.0" {
			return p, v, nil
		}
	}
	return p, versionOfName(path), nil
}

// dylibVersion unpacks a version of sixteen, eight and eight bits.
func dylibVersion(order binary.ByteOrder, raw []byte) string {
	v := order.Uint32(raw)
	return fmt.Sprintf("%d.%d.%d", v>>16, v>>8&0xff, v&0xff)
}

const unknown = "unknown"

var versionInName = regexp.MustCompile(`libonnxruntime\.(?:so\.)?(\d+\.\d+\.\d+)(?:\.dylib)?`)

// versionOfName reads the version from a file's name, following links.
func versionOfName(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if m := versionInName.FindStringSubmatch(filepath.Base(path)); m != nil {
		return m[1]
	}
	return unknown
}

// older reports whether version a comes before b; an unknown one does not.
func older(a, b string) bool {
	as, bs := strings.Split(a, "."), strings.Split(b, ".")
	if a == unknown || b == unknown {
		return false
	}
	for i := range min(len(as), len(bs)) {
		x, _ := strconv.Atoi(as[i])
		y, _ := strconv.Atoi(bs[i])
		if x != y {
			return x < y
		}
	}
	return len(as) < len(bs)
}
