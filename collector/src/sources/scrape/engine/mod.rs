//! The loops that fetch pages: schedule, connections, what every target says of itself.
