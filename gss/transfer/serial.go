package transfer

// Newer says whether serial a is after b (RFC 1982 section 3.2). Of two that are half the numbers apart neither is.
func Newer(a, b uint32) bool { return a != b && a-b < 1<<31 }
