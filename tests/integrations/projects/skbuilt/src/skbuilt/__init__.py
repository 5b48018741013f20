from skbuilt._sum import add as add
