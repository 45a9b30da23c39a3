package dataset

// A Rejection is a row that was left out, and why. Lines count from 1; in a
// Parquet file, which has none, they are row numbers.
type Rejection struct {
	File string `json:"file"`
	Line int64  `json:"line"`
	Why  string `json:"why"`
}

// maxRejections bounds the rejections that are kept word for word.
const maxRejections = 1000

// Rejections collects rejected rows: the first thousand in full, and how many
// there were.
type Rejections struct {
	First []Rejection
	Total int64
}

func (r *Rejections) add(file string, line int64, why string) {
	r.Total++
	if len(r.First) < maxRejections {
		r.First = append(r.First, Rejection{File: file, Line: line, Why: why})
	}
}
