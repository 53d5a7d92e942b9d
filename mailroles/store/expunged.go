package store

// retire takes the file of a message that is gone out of the tree. One that is not there is no error.
func (s *Store) retire(path, base string) error { return s.files.remove(path) }

// retireFolder takes what is left of a deleted folder out of the tree.
func (s *Store) retireFolder(path string) error { return s.files.removeAll(path) }

// kept finds a body among what is kept of messages that are gone, below the LUN's directory.
func (s *Store) kept(b Body) (path string, ok bool) { return "", false }
