"""The AuraLink operator: keeps what users declare (AuraLinkBridge, RoomPolicy) and what runs the same, and says so."""
