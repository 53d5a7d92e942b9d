package topology

import (
	"errors"
	"strings"
)

var (
	errNoCommand = errors.New("no command; write one or remove the entry")
	errOpenQuote = errors.New("a quote or a backslash at the end of the command leads nowhere; close it")
)

// split cuts a command line into words exactly as containerlab does, which runs cmd and exec without a shell: with
// quotes, backslashes and comments but without any expansion. Unlike in a shell, a backslash between double quotes
// always escapes what follows. At least one word comes back.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord := false
	var quote byte // the open quote, or 0
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote == '\'':
			word.WriteByte(c)
		case c == '\\':
			if i++; i == len(line) {
				return nil, errOpenQuote
			}
			word.WriteByte(line[i])
			inWord = true
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord = c, true
		case quote == 0 && !inWord && c == '#':
			for i+1 < len(line) && line[i+1] != '\n' {
				i++
			}
		case quote == 0 && (c == ' ' || c == '\t' || c == '\r' || c == '\n'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
			}
			inWord = false
		default:
			word.WriteByte(c)
			inWord = true
		}
	}
	if quote != 0 {
		return nil, errOpenQuote
	}
	if inWord {
		words = append(words, word.String())
	}
	if len(words) == 0 || words[0] == "" {
		return nil, errNoCommand
	}
	return words, nil
}
