"""Rows for matrix products and einsum."""

from tests.ops.case import case, integers, normal

PLAIN = {"transpose1": False, "transpose2": False}

CASES = {
    "matmul": [
        case(normal(3, 4), normal(4, 5), **PLAIN),
        case(normal(4, 3), normal(4, 5), transpose1=True, transpose2=False),
        case(normal(3, 4), normal(5, 4), transpose1=False, transpose2=True),
        case(normal(4, 3), normal(5, 4), transpose1=True, transpose2=True),
        case(normal(2, 3, 4), normal(4, 5), **PLAIN),
        case(normal(2, 3, 4), normal(5, 4), transpose1=False, transpose2=True),
        case(normal(2, 4, 3), normal(4, 5), transpose1=True, transpose2=False),
        case(normal(2, 4, 3), normal(5, 4), transpose1=True, transpose2=True),
        case(normal(3, 4), normal(2, 4, 5), **PLAIN),
        case(normal(2, 3, 4), normal(2, 4, 5), **PLAIN),
        case(normal(2, 1, 4, 3), normal(5, 6, 4), transpose1=True, transpose2=True),
        case(normal(1, 1), normal(1, 1), **PLAIN),
        case(normal(0, 4), normal(4, 5), **PLAIN),
        case(normal(3, 0), normal(0, 5), **PLAIN),
        case(normal(2, 0, 4), normal(4, 5), **PLAIN),
        case(normal(33, 65), normal(65, 31), **PLAIN),
        case(integers(-9, 9, 3, 4), integers(-9, 9, 4, 5), **PLAIN),
        case(integers(0, 9, 2, 3, 4, dtype="uint8"), integers(0, 9, 4, 5, dtype="uint8"), **PLAIN),
    ],
    "einsum": [
        case(normal(3, 4), normal(4, 5), equation="ab,bc->ac"),
        case(normal(3, 4), normal(5, 4), equation="ab,cb->ca"),
        case(normal(3, 4), equation="ab->ba"),
        case(normal(3, 4), equation="ab->"),
        case(normal(3, 4), equation="ab->b"),
        case(normal(3), normal(3), equation="a,a->"),
        case(normal(3), normal(2), equation="a,b->ba"),
        case(normal(3, 4), normal(3, 4), equation="ab,ab->ab"),
        case(normal(3, 4), normal(3, 4), equation="ab,ab->a"),
        case(normal(3, 4), normal(2, 5), equation="ab,cd->ad"),
        case(normal(2, 3, 4, 5), normal(2, 6, 4, 5), equation="btnh,bsnh->bnts"),
        case(normal(2, 3, 4), normal(4, 5, 2), equation="abc,cde->deab"),
        case(normal(2, 3, 4, 5), normal(4, 5, 2, 3), equation="abcd,cdab->ab"),
        case(normal(3, 4), normal(4, 5), normal(5, 2), equation="ab,bc,cd->ad"),
        case(normal(2), normal(3), normal(4), equation="a,b,c->cab"),
        case(*[normal(3)] * 6, equation="a,a,a,a,a,a->a"),
        case(normal(), normal(2, 3), equation=",ab->ba"),
        case(normal(0, 4), normal(4, 5), equation="ab,bc->ac"),
        case(normal(3, 0), normal(0, 5), equation="ab,bc->ac"),
        case(integers(-9, 9, 3, 4), integers(-9, 9, 4, 5), equation="ab,bc->ac"),
    ],
}
