package store

func convert(opt Options) error { return nil }
