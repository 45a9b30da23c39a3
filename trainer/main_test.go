package trainer

import "flag"

var rewrite = flag.Bool("rewrite", false, "write the golden files of testdata anew")
