package control

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"galley/scheduler"
)

func TestTenants(t *testing.T) {
	home := t.TempDir()
	if tenants, err := readTenants(home); tenants != nil || err != nil {
		t.Errorf("%v %v without a file", tenants, err)
	}
	const head = "apiVersion: galley/v1\nkind: Tenants\n"
	for _, c := range []struct {
		file, wrong string
		want        []scheduler.Tenant
	}{
		{file: head},
		{file: head + "tenants:\n- {name: sport, weight: 2, cpus: 4, memory: 8GiB}\n- {name: politics}\n", want: []scheduler.Tenant{
			{Name: "sport", Weight: 2, Quota: scheduler.Resources{scheduler.CPU: 4000, scheduler.Memory: 8 << 30}}, {Name: "politics"},
		}},
		{file: "", wrong: "is empty"},
		{file: "kind: Tenant\n", wrong: "write kind: Tenants"},
		{file: head + "tenants: [{name: sport, cpu: 4}]\n", wrong: `tenants[0].cpu: is not a field here — did you mean "cpus"?`},
		{file: head + "tenants: [{name: Sport}]\n", wrong: `number 1: "Sport" is not a`},
		{file: head + "tenants: [{name: a}, {name: a}]\n", wrong: "a is listed twice"},
		{file: head + "tenants: [{name: a, weight: -1}]\n", wrong: "a: a number is out of range"},
		{file: head + "tenants: [{name: a, memory: 1}]\n", wrong: `a: memory: "1" is not an amount of memory`},
		{file: strings.Repeat("#", 2<<20), wrong: "at most"},
	} {
		if err := os.WriteFile(filepath.Join(home, tenantsFile), []byte(c.file), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := readTenants(home)
		if c.wrong == "" && (err != nil || !reflect.DeepEqual(got, c.want)) || c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong)) {
			t.Errorf("%.100q: %+v %v", c.file, got, err)
		}
	}
}

func FuzzTenants(f *testing.F) {
	f.Add([]byte("apiVersion: galley/v1\nkind: Tenants\ntenants:\n- {name: sport, weight: 2, cpus: 4, memory: 8GiB}\n"))
	f.Add([]byte("tenants: [{}]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		tenants, problems := parseTenants(data)
		if problems != nil && tenants != nil {
			t.Error("tenants with problems")
		}
		for _, tenant := range tenants {
			for _, n := range tenant.Quota {
				if n < 0 {
					t.Errorf("%+v", tenant)
				}
			}
		}
	})
}
