from mesonic._sum import add as add
