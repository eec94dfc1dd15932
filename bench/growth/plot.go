package main

import (
	"errors"
	"os"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/plotutil"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

const columns = 3

// draw writes one panel for each measure, with logarithmic axes, as SVG.
func (r *results) draw(file string) error {
	rows := (len(measures) + columns - 1) / columns
	panels := make([][]*plot.Plot, rows)
	for i := range panels {
		panels[i] = make([]*plot.Plot, columns)
	}
	for i, m := range measures {
		p, err := r.panel(m)
		if err != nil {
			return err
		}
		panels[i/columns][i%columns] = p
	}
	c := vgsvg.New(columns*4*vg.Inch, vg.Length(rows)*3*vg.Inch)
	page := draw.New(c)
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 12, PadY: 12, PadTop: 6, PadBottom: 6, PadLeft: 6, PadRight: 12}
	for i, row := range plot.Align(panels, tiles, page) {
		for k, at := range row {
			if panels[i][k] != nil {
				panels[i][k].Draw(at)
			}
		}
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	_, err = c.WriteTo(f)
	return errors.Join(err, f.Close())
}

func (r *results) panel(measure string) (*plot.Plot, error) {
	p := plot.New()
	p.Title.Text = measure
	p.X.Label.Text, p.Y.Label.Text = "size", "us"
	if isMemory(measure) {
		p.Y.Label.Text = "MiB"
	}
	p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
	p.X.Tick.Marker, p.Y.Tick.Marker = plot.LogTicks{Prec: -1}, plot.LogTicks{Prec: -1}
	p.Add(plotter.NewGrid())
	p.X.Min, p.X.Max = float64(r.sizes[0]), float64(10*r.sizes[0])
	p.Y.Min, p.Y.Max = 1, 10
	for i, s := range r.systems {
		var points plotter.XYs
		for _, n := range r.sizes {
			if v, ok := r.at(measure, s, n); ok {
				points = append(points, plotter.XY{X: float64(n), Y: max(v, 1e-3)})
			}
		}
		if len(points) == 0 {
			continue
		}
		line, marks, err := plotter.NewLinePoints(points)
		if err != nil {
			return nil, err
		}
		line.Color, line.Width = plotutil.Color(i), vg.Points(1.5)
		marks.Color, marks.Shape = plotutil.Color(i), plotutil.Shape(i)
		p.Add(line, marks)
		p.Legend.Add(s, line, marks)
	}
	p.Y.Max *= 10 // room for the legend
	p.Legend.Top, p.Legend.Left = true, true
	return p, nil
}
