package pod

// firewall is the key firewall of a core router's net section.
func (l *lab) firewall(*host, []wire) string { return "" }
