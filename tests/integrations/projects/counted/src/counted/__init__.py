from counted._count import add as add
