package control

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"galley"
	"galley/internal/durable"
	"galley/internal/strictyaml"
	"galley/scheduler"
	"galley/trainer"
)

// tenantsFile is where a home says who gets how much of the machine.
const tenantsFile = "tenants.yaml"

// maxTenants bounds the tenants of a home.
const maxTenants = 1000

type tenantsDocument struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Tenants    []tenant `yaml:"tenants"`
}

// A tenant is one that jobs' resources are counted for. Without a limit it
// may use the whole machine.
type tenant struct {
	Name   string `yaml:"name"`
	Weight int    `yaml:"weight"`
	CPUs   int    `yaml:"cpus"`
	Memory string `yaml:"memory"`
	GPUs   int    `yaml:"gpus"`
}

// readTenants reads the tenants of a home; without the file there are none.
func readTenants(home string) ([]scheduler.Tenant, error) {
	path := filepath.Join(home, tenantsFile)
	data, err := readTenantsFile(path)
	if err != nil || data == nil {
		return nil, err
	}
	tenants, problems := parseTenants(data)
	return tenants, problems.AsError(path)
}

// readTenantsFile reads as much of the file as may be in it, and a byte more;
// nil if it is not there.
func readTenantsFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, durable.ReadError(path, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, strictyaml.MaxBytes+1))
	return data, durable.ReadError(path, err)
}

func parseTenants(data []byte) ([]scheduler.Tenant, strictyaml.Problems) {
	doc, problems := strictyaml.Parse(data)
	if problems != nil {
		return nil, problems
	}
	var file tenantsDocument
	if problems := doc.Decode(&file); problems != nil {
		return nil, problems
	}
	wrong := func(path, remedy, format string, args ...any) {
		problems = append(problems, doc.Problem(path, fmt.Sprintf(format, args...), remedy))
	}
	if file.APIVersion != trainer.APIVersion {
		wrong("apiVersion", "write apiVersion: "+trainer.APIVersion, "is not a version of this format")
	}
	if file.Kind != "Tenants" {
		wrong("kind", "write kind: Tenants", "is not Tenants")
	}
	if len(file.Tenants) > maxTenants {
		wrong("tenants", "", "has %d, more than %d", len(file.Tenants), maxTenants)
		return nil, problems
	}
	var out []scheduler.Tenant
	seen := map[string]bool{}
	for i, t := range file.Tenants {
		about := fmt.Sprintf("number %d", i+1)
		if err := galley.CheckName("tenant", t.Name); err != nil {
			wrong("tenants", galley.AsError(err).Remedy, "%s: %s", about, galley.AsError(err).Message)
			continue
		}
		if seen[t.Name] {
			wrong("tenants", "keep one", "%s is listed twice", t.Name)
		}
		seen[t.Name] = true
		if t.Weight < 0 || t.Weight > 1000 || t.CPUs < 0 || t.CPUs > 1<<20 || t.GPUs < 0 || t.GPUs > 1<<20 {
			wrong("tenants", "write weight 1 to 1000, cpus and gpus 0 to 1048576; 0 is no limit", "%s: a number is out of range", t.Name)
		}
		quota := scheduler.Resources{scheduler.CPU: int64(t.CPUs) * 1000, scheduler.GPU: int64(t.GPUs)}
		if t.Memory != "" {
			n, err := trainer.ParseMemory(t.Memory)
			if err != nil {
				wrong("tenants", galley.AsError(err).Remedy, "%s: memory: %s", t.Name, galley.AsError(err).Message)
			}
			quota[scheduler.Memory] = n
		}
		out = append(out, scheduler.Tenant{Name: t.Name, Weight: int64(t.Weight), Quota: quota})
	}
	if problems != nil {
		return nil, problems
	}
	return out, nil
}
