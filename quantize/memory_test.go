package quantize

import (
	"runtime"
	"testing"

	"galley/internal/ort/orttest"
	"galley/onnx/session"
)

// TestCalibrationMemory holds that what calibration keeps of the batches it has
// seen does not grow. The runtime's memory is measured by TestBenchQuantize.
func TestCalibrationMemory(t *testing.T) {
	opener := orttest.Opener(t)
	m := imageModel()
	values := floats(t, m)
	const early, late = 20, 320
	for _, search := range Searches {
		t.Run(string(search), func(t *testing.T) {
			var held [2]uint64
			counted := func(yield func(map[string]*session.Tensor, error) bool) {
				n := 0
				for batch, err := range imageBatches(t, late+1) {
					for i, at := range []int{early, late} {
						if n == at {
							held[i] = heap()
						}
					}
					if n++; !yield(batch, err) {
						return
					}
				}
			}
			if _, err := Calibrate(t.Context(), opener, m, values, counted, Calibration{Search: search, Threads: 1}, Options{Method: Static}); err != nil {
				t.Fatal(err)
			}
			if grown := int64(held[1]) - int64(held[0]); held[0] == 0 || grown > 1<<20 {
				t.Errorf("%d bytes are held after %d batches, %d more after %d", held[0], early, grown, late)
			}
		})
	}
}

// heap is how much is held once what is not needed is collected.
func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
