// Package parquet reads top-level columns of Parquet files that come from
// outside, row by row, in bounded memory: whatever a file says of its sizes, no
// page takes more than [MaxPage] and all that is held at once no more than
// [MaxHeld]. Counts in a file are only ever counted down, never allocated by.
// How long a file takes is not bounded by its size: a few bytes can stand for
// many rows.
//
// It reads what people write: data pages of both versions, dictionaries, all
// encodings of byte arrays, integers and booleans, and every codec of the
// format but LZO and the LZ4 that was given up. What the columns mean, and
// nested ones, are left to others. The format is at
// https://parquet.apache.org/docs/file-format/.
package parquet
