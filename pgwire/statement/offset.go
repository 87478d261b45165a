package statement

// Offset is the byte at which an expression stands, as PostgreSQL's
// exprLocation tells it: of an operator, where its left side begins.
func Offset(e Expr) int {
	for {
		var left Expr
		at := -1
		switch e := e.(type) {
		case Const:
			at = e.At
		case Param:
			at = e.At
		case Cast:
			left = e.Of
		case Array:
			at = e.At
		case Func:
			at = e.At
		case Column:
			at = e.At
		case Collate:
			left = e.Of
		case Op:
			at, left = e.At, e.Left
		case Logic:
			left = e.Args[0]
		case Not:
			at = e.At
		case Is:
			left = e.Of
		case DistinctFrom:
			left = e.Left
		case Between:
			left = e.Of
		case In:
			left = e.Of
		case Any:
			left = e.Left
		case Sub:
			at = e.At
		case Case:
			at = e.At
		case Row:
			at = e.At
		case Index:
			left = e.Of
		case Field:
			left = e.Of
		}
		if left == nil {
			return at
		}
		e = left
	}
}
