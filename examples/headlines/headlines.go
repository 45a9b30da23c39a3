// Package headlines holds galley's example data: 2,400 news headlines written
// for this project, half English and half Chinese, in six topics, split into
// train, valid and test. The quickstart and the tests train on them.
//
// Events, people, companies and clubs in them are invented. They are in the
// public domain (CC0 1.0); README.md beside the files says how they were made.
package headlines

import "embed"

// Files holds train.csv, valid.csv and test.csv, each with the columns text,
// label and language.
//
//go:embed train.csv valid.csv test.csv
var Files embed.FS
