package process

import (
	"strings"

	"galley"
)

// memoryRemedy says what helps an attempt that has too little memory. A
// smaller batch makes another model, so it is the user's choice.
const memoryRemedy = "lower recipe.batch_size and raise recipe.accumulate by the same factor, lower the model's sizes, or give it more memory: a larger machine, or resources.memory if other jobs took it"

// shortages are what the parts of an attempt say when they get no memory: the
// system, Go's runtime, C++'s, ONNX Runtime's.
var shortages = []string{"cannot allocate memory", "out of memory", "bad_alloc", "failed to allocate memory", "bfcarena"}

// lacksMemory reports whether a text is of an attempt that got no memory.
func lacksMemory(text string) bool {
	text = strings.ToLower(text)
	for _, s := range shortages {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

func noMemory(how string) *galley.Error {
	return galley.Errorf(galley.ResourceExhausted, "attempt", "it ran out of memory: %s", galley.Clip(how, 300)).WithRemedy(memoryRemedy)
}
