package quantize

import "testing"

func TestSaturationLine(t *testing.T) {
	for _, c := range []struct {
		here bool
		want string
	}{
		{true, "12.50 % of the pairs of weights can saturate on x86 processors without VNNI, as this one is: write weights: {saturation: prevent}"},
		{false, "12.50 % of the pairs of weights can saturate on x86 processors without VNNI; this one does not. For others write weights: {saturation: prevent}"},
	} {
		if got := saturationLine(.125, c.here); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}
