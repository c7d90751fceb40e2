// Comparisons, logic and tests, element by element: results are bools.
//
// arrays: operands, result; sizes: see elementwise.h.
#include "elementwise.h"
#include "scalar.h"

using namespace elementwise;

constexpr int64_t GRAIN = CHEAP;
#define BOOLS(name, ...) TYPED(name, b8, bool, __VA_ARGS__)

NUMBERS(equal, BINARY(Equal))
NUMBERS(not_equal, BINARY(NotEqual))
NUMBERS(less, BINARY(Less))
NUMBERS(less_equal, BINARY(LessEqual))
NUMBERS(greater, BINARY(Greater))
NUMBERS(greater_equal, BINARY(GreaterEqual))
BOOLS(equal, BINARY(Equal))
BOOLS(not_equal, BINARY(NotEqual))
BOOLS(logical_and, BINARY(LogicalAnd))
BOOLS(logical_or, BINARY(LogicalOr))
BOOLS(logical_not, UNARY(LogicalNot))
FLOATS(isnan, UNARY(Isnan))
FLOATS(isinf, UNARY(Isinf))
FLOATS(isfinite, UNARY(Isfinite))
