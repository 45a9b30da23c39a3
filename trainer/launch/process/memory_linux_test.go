package process

import "testing"

func TestMemoryKills(t *testing.T) {
	for text, want := range map[string]int64{
		"low 0\nhigh 0\nmax 3\noom 2\noom_kill 7\noom_group_kill 1\n": 7,
		"pgpgin 1\noom_kill 0\n": 0,
	} {
		if n, ok := counter([]byte(text)); n != want || !ok {
			t.Errorf("%q: %d %v", text, n, ok)
		}
	}
	for _, text := range []string{"", "oom 2\n", "oom_kill many\n"} {
		if n, ok := counter([]byte(text)); ok {
			t.Errorf("%q: %d", text, n)
		}
	}
	if _, ok := memoryKills(); !ok {
		t.Skip("this system does not count them")
	}
}

func TestLacksMemory(t *testing.T) {
	for text, want := range map[string]bool{
		"fork/exec: cannot allocate memory":                      true,
		"fatal error: runtime: out of memory":                    true,
		"what():  std::bad_alloc":                                true,
		"Failed to allocate memory for requested buffer of size": true,
		"the loss is NaN at step 7":                              false,
		"":                                                       false,
	} {
		if lacksMemory(text) != want {
			t.Errorf("%q", text)
		}
	}
}
