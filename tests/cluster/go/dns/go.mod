module weir.dev/tests/cluster/dns

go 1.26.0
