package main

import (
	"encoding/json"
	"fmt"
	"strings"
)

// event is one line from init; one field is set.
type event struct {
	Kernel string `json:"kernel,omitempty"` // its release, once, before all others
	Begin  string `json:"begin,omitempty"`  // a package
	Line   string `json:"line,omitempty"`   // of the output of its test binary
	End    *ended `json:"end,omitempty"`
	Err    string `json:"err,omitempty"` // init cannot go on
	Done   bool   `json:"done,omitempty"`
}

type ended struct {
	Package string  `json:"package"`
	Result  string  `json:"result"` // empty: the binary exited with 0
	Seconds float64 `json:"seconds"`
}

// parseEvent takes a line as it came over the serial line.
func parseEvent(line string) (event, error) {
	var e event
	if err := json.Unmarshal([]byte(strings.TrimRight(line, "\r\n")), &e); err != nil {
		return e, fmt.Errorf("line %q from the machine: %w", line, err)
	}
	return e, nil
}
