// Package distill has what a student learns from beside labels: the answers of
// its teachers (Hinton, Vinyals and Dean: Distilling the Knowledge in a Neural
// Network, 2015, arXiv:1503.02531).
//
// A teacher is asked about each text once. Its logits are kept in segments of
// SegmentRows rows, files that are named by what they are of, so that another
// attempt or job reads them instead of asking; see Answers. From them come the
// probabilities that a job trains against, those of all teachers at its
// temperature averaged, in one file of the job's own; see Targets. Both are
// read row by row: memory does not grow with the rows.
package distill
