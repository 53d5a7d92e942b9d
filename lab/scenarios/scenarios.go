// Package scenarios holds the faults that `anycastle lab run` puts a lab through, one a file: see package scenario for
// how they are written. They are part of the binary too.
package scenarios

import (
	"embed"
	"io/fs"
)

//go:embed *.txt
var files embed.FS

// Files gives the folder of the scenarios.
func Files() fs.FS { return files }
