package report

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"anycastle/lab/score"
)

const plotsDir = "plots"

//go:embed page.html.tmpl
var pageText string

// Write writes a report into a folder that it makes: NAME.json with the rows, report.md, report.html with all plots in
// it, and plots/*.svg. The rows come first: they are there whatever goes wrong after them.
func Write(run score.Run, dir string) error {
	if err := write(run, dir); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}

func write(run score.Run, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	rows := run.Rows()
	if rows == nil {
		rows = []score.Row{} // a list, though of nothing
	}
	text, err := json.MarshalIndent(rows, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, filepath.Base(run.Name)+".json"), append(text, '\n'), 0o644); err != nil {
		return err
	}
	p, plots, err := newPage(run)
	if err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(dir, plotsDir)); err != nil { // those of a run before
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, plotsDir), 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(plots)) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(plots[name]), 0o644); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "report.md"), []byte(p.markdown()), 0o644); err != nil {
		return err
	}
	page, err := p.html()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "report.html"), page, 0o644)
}

// html writes the page as one file.
func (p page) html() ([]byte, error) {
	t, err := template.New("page").Funcs(template.FuncMap{"offset": offset}).Parse(pageText)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, p); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
