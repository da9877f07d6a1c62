"""What people define: segments, stages, health, scores, signals, destinations, links, saved
views."""
