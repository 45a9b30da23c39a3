// Package dataset turns files of users into frozen, digested splits and
// streams them to training.
//
// Freeze reads CSV, JSONL or Parquet once, rejects bad rows by file and line,
// and writes each split as a record file: a [Row] per record, found by number
// without loading an index. What it froze is described by a [Manifest], whose
// digest names the data in lineage. A [Loader] reads record files in an order
// that depends on seed and epoch alone, so that a pass can be taken up at any
// batch.
//
//	files --Freeze--> Manifest + record files --OpenRecords--> Records
//	Records [--Subset-->] --Loader.Batches(epoch, first)--> batches
//
// Memory does not grow with the number of rows, on the way in or out.
package dataset
