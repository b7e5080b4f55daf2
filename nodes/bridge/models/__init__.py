"""Models that the pack itself reads: referees, and the small ones that ship with it."""
