package page

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"

	"golang.org/x/text/width"
)

// formats are the functions of the templates.
var formats = template.FuncMap{
	"px":      px,
	"percent": percent,
	"points":  points,
	"p":       pValue,
	"short":   short,
	"mib":     mebibytes,
	"figure":  figure,
	"ms":      milliseconds,
	"money":   money,
	"ratio":   func(x float64) string { return fmt.Sprintf("%.3f", x) },
	"half":    func(x float64) float64 { return x / 2 },
	"add":     func(x, y float64) float64 { return x + y },
}

// px is a coordinate.
func px(x float64) string {
	if math.IsNaN(x) || math.IsInf(x, 0) {
		return "0"
	}
	return strconv.FormatFloat(math.Round(x*10)/10, 'f', -1, 64)
}

// percent is a share.
func percent(x float64) string { return fmt.Sprintf("%.1f %%", 100*x) }

// points is a difference of shares, in percentage points.
func points(x float64) string { return strings.Replace(fmt.Sprintf("%+.1f", 100*x), "-", "−", 1) }

func pValue(x float64) string {
	if x < .001 {
		return "< 0.001"
	}
	return fmt.Sprintf("%.3f", x)
}

// figure is a number of no known unit.
func figure(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }

// money has three digits that count and no exponent.
func money(x float64) string {
	if !(x > 0) || x >= 100 {
		return strconv.FormatFloat(x, 'f', 2, 64)
	}
	return strconv.FormatFloat(x, 'f', min(12, 2-int(math.Floor(math.Log10(x)))), 64)
}

func milliseconds(x float64) string { return strconv.FormatFloat(x, 'g', 3, 64) + " ms" }

func mebibytes(n int64) string {
	const mib = 1 << 20
	return fmt.Sprintf("%.1f MiB", float64(n)/mib)
}

// short cuts a label to about so many columns; Chinese characters take two.
func short(text string, columns int) string {
	used := 0
	for i, r := range text {
		one := 1
		if k := width.LookupRune(r).Kind(); k == width.EastAsianWide || k == width.EastAsianFullwidth {
			one = 2
		}
		if used+one > columns {
			return text[:i] + "…"
		}
		used += one
	}
	return text
}
