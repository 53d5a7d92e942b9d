package store

// Identity gives what names a folder at every replica, and its present name.
func (f *Folder) Identity() (guid, name string) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	return f.guid, f.name
}

// Reopen opens a folder that a session had open at another replica, which knew it up to a generation. One that has been
// deleted is found empty and gone.
func (m *Mailbox) Reopen(guid, name string, validity uint32, generation uint64) *Folder {
	m.mu.Lock()
	defer m.mu.Unlock()
	if f := m.byGUID[guid]; f != nil {
		return f
	}
	f := newFolder(m, &contents{guid: guid, name: name, validity: validity, next: 1, changed: generation + 1})
	f.gone = true
	return f
}

// Claim makes no message recent for anybody whose UID is below next: sessions of another replica have heard of them.
func (f *Folder) Claim(next uint32) {
	f.box.mu.Lock()
	defer f.box.mu.Unlock()
	f.unclaimed = max(f.unclaimed, min(next, f.next))
}
