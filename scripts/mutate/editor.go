package main

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
)

// editor finds what can be changed in one file.
type editor struct {
	p        *program
	fset     *token.FileSet
	info     *types.Info
	pkg      *types.Package
	path     string
	src      []byte
	function string
	words    map[string]int // how many mutants have a key
	edits    []edit
	fixed    map[ast.Node]bool // nodes that cannot be changed where they stand
}

func (e *editor) offset(pos token.Pos) int { return e.fset.Position(pos).Offset }

func (e *editor) text(n ast.Node) string {
	return string(e.src[e.offset(n.Pos()):e.offset(n.End())])
}

// add makes a new mutant and returns its number.
func (e *editor) add(n ast.Node, change string) int {
	pos := e.fset.Position(n.Pos())
	m := mutant{id: len(e.p.mutants) + 1, file: filepath.Base(e.path), function: e.function,
		line: pos.Line, col: pos.Column, change: strings.Join(strings.Fields(change), " ")}
	key := m.key()
	e.words[key]++
	if k := e.words[key]; k > 1 {
		m.change += fmt.Sprintf(" (%d)", k)
	}
	e.p.mutants = append(e.p.mutants, m)
	return m.id
}

func (e *editor) around(n ast.Node, before, behind string) {
	e.edits = append(e.edits, edit{from: e.offset(n.Pos()), to: e.offset(n.End()), before: before, behind: behind})
}

func (e *editor) instead(n ast.Node, text string) {
	e.edits = append(e.edits, edit{from: e.offset(n.Pos()), to: e.offset(n.End()), instead: text})
}

// alternative makes another condition of one.
func (e *editor) alternative(n ast.Expr, other string) {
	id := e.add(n, e.text(n)+" => "+other)
	e.around(n, fmt.Sprintf("((mutant__ != %d && (", id), fmt.Sprintf(")) || (mutant__ == %d && (%s)))", id, other))
}

// force makes a condition always hold, and never.
func (e *editor) force(n ast.Expr) {
	id := e.add(n, e.text(n)+" => true")
	e.around(n, fmt.Sprintf("(mutant__ == %d || (", id), "))")
	id = e.add(n, e.text(n)+" => false")
	e.around(n, fmt.Sprintf("(mutant__ != %d && (", id), "))")
}

// leaveOut makes a statement not be performed.
func (e *editor) leaveOut(n ast.Stmt) {
	if e.fixed[n] {
		return
	}
	id := e.add(n, "without "+e.text(n))
	e.around(n, fmt.Sprintf("if mutant__ != %d { ", id), " }")
}

func (e *editor) isBool(x ast.Expr) bool {
	t := e.info.Types[x].Type
	if t == nil {
		return false
	}
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsBoolean != 0
}

func (e *editor) declaration(d ast.Decl) {
	e.function = ""
	if fn, ok := d.(*ast.FuncDecl); ok && fn.Body != nil {
		e.function = functionName(fn)
		if list := fn.Body.List; len(list) > 0 && isPanic(list[len(list)-1]) {
			e.fix(list[len(list)-1]) // without it a return is missing
		}
	}
	e.walk(d)
}

// functionName is a function's, or type.method.
func functionName(fn *ast.FuncDecl) string {
	if fn.Recv == nil {
		return fn.Name.Name
	}
	return strings.TrimPrefix(types.ExprString(fn.Recv.List[0].Type), "*") + "." + fn.Name.Name
}

// isPanic reports whether a statement is a call of panic.
func isPanic(s ast.Stmt) bool {
	x, ok := s.(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := x.X.(*ast.CallExpr)
	return ok && types.ExprString(call.Fun) == "panic"
}

// fix keeps a statement, if there is one, where it stands: around it nothing can be put.
func (e *editor) fix(s ast.Stmt) {
	if s != nil {
		e.fixed[s] = true
	}
}

// walk finds what can be changed in a part of the file.
func (e *editor) walk(root ast.Node) {
	ast.Inspect(root, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok == token.VAR // constants and types must stay what they are
		case *ast.ArrayType:
			return n.Len == nil
		case *ast.IfStmt:
			e.fix(n.Init)
			e.force(n.Cond)
		case *ast.SwitchStmt:
			e.fix(n.Init)
			if n.Tag == nil {
				for _, c := range n.Body.List {
					for _, x := range c.(*ast.CaseClause).List {
						e.force(x)
					}
				}
			}
		case *ast.TypeSwitchStmt:
			e.fix(n.Init)
			e.fix(n.Assign)
		case *ast.CommClause:
			e.fix(n.Comm)
		case *ast.ForStmt:
			e.fix(n.Init)
			e.fix(n.Post)
		case *ast.BinaryExpr:
			e.binary(n)
		case *ast.UnaryExpr:
			if n.Op == token.NOT {
				e.alternative(n, e.text(n.X))
			}
			if n.Op == token.SUB {
				e.fixed[n.X] = true
			}
		case *ast.Ident:
			e.ident(n)
		case *ast.BasicLit:
			e.literal(n)
		case *ast.ReturnStmt:
			for _, x := range n.Results {
				e.result(x)
			}
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				e.leaveOut(n)
			}
		case *ast.BranchStmt:
			if n.Tok != token.FALLTHROUGH {
				e.leaveOut(n)
			}
		case *ast.ExprStmt, *ast.IncDecStmt:
			e.leaveOut(n.(ast.Stmt))
		}
		return true
	})
}

// opposites are what a comparison is mistaken for.
var opposites = map[token.Token][]string{
	token.EQL: {"!="}, token.NEQ: {"=="},
	token.LSS: {"<=", ">="}, token.LEQ: {"<", ">"},
	token.GTR: {">=", "<="}, token.GEQ: {">", "<"},
}

func (e *editor) binary(n *ast.BinaryExpr) {
	x, y := e.text(n.X), e.text(n.Y)
	for _, op := range opposites[n.Op] {
		e.alternative(n, x+" "+op+" "+y)
	}
	switch n.Op {
	case token.LAND:
		e.alternative(n, "("+x+") || ("+y+")")
	case token.LOR:
		e.alternative(n, "("+x+") && ("+y+")")
	default:
		return
	}
	e.alternative(n, x)
	e.alternative(n, y)
}

// ident turns true and false round.
func (e *editor) ident(n *ast.Ident) {
	if n.Name != "true" && n.Name != "false" || e.info.Types[n].Value == nil || !e.isBool(n) {
		return
	}
	op := "=="
	if n.Name == "true" {
		op = "!="
	}
	e.instead(n, fmt.Sprintf("(mutant__ %s %d)", op, e.add(n, "not "+n.Name)))
}

// literal makes other numbers and texts.
func (e *editor) literal(n *ast.BasicLit) {
	name, ok := e.typeName(e.info.Types[n].Type)
	if !ok || e.fixed[n] {
		return
	}
	switch n.Kind {
	case token.INT:
		more, less := e.add(n, n.Value+" + 1"), e.add(n, n.Value+" - 1")
		e.instead(n, fmt.Sprintf("(%[1]s(%[2]s) + %[1]s(mutantOne__(%[3]d)) - %[1]s(mutantOne__(%[4]d)))", name, n.Value, more, less))
	case token.STRING:
		if strings.Contains(n.Value, " ") {
			return // a sentence, for people
		}
		e.instead(n, fmt.Sprintf("(%s + %s(mutantText__(%d)))", n.Value, name, e.add(n, "text "+n.Value)))
	}
}

// typeName is how this package's code calls the type of a literal.
func (e *editor) typeName(t types.Type) (name string, ok bool) {
	switch t := t.(type) {
	case *types.Basic:
		switch {
		case t.Kind() == types.UntypedInt:
			return "int", true
		case t.Kind() == types.UntypedString:
			return "string", true
		}
		return t.Name(), t.Info()&types.IsUntyped == 0
	case *types.Named:
		return t.Obj().Name(), t.Obj().Pkg() == e.pkg && t.TypeArgs() == nil
	}
	return "", false
}

// result makes a function return another boolean, and of other types nothing.
func (e *editor) result(x ast.Expr) {
	tv := e.info.Types[x]
	_, several := tv.Type.(*types.Tuple) // the results of a call
	lit, ok := x.(*ast.CompositeLit)
	nothing := tv.IsNil() || ok && len(lit.Elts) == 0
	switch {
	case tv.Value != nil || nothing || several:
	case e.isBool(x):
		id := e.add(x, "return !("+e.text(x)+")")
		e.around(x, fmt.Sprintf("((mutant__ == %d) != (", id), "))")
	default:
		id := e.add(x, "nothing for "+e.text(x))
		e.around(x, fmt.Sprintf("mutantZero__(%d, ", id), ")")
	}
}
