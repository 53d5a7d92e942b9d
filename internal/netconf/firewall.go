package netconf

import (
	"log/slog"

	"anycastle/internal/firewall"
)

func applyFirewall(cfg *firewall.Config, log *slog.Logger) error {
	if cfg == nil {
		return firewall.Remove() // an earlier file may have had one
	}
	if err := firewall.Apply(*cfg); err != nil {
		return err
	}
	log.Info("firewall set", "zones", len(cfg.Zones), "rules", len(cfg.Allow))
	return nil
}
