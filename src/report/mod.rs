//! What people and scripts see: results on stdout, everything else on stderr. The one place that prints, so that an
//! escape sequence in somebody's name, a closed pipe or a progress bar is thought of once and not at each message.

mod events;
mod logging;
mod progress;
mod prompt;
mod terminal;

pub use events::{Event, Events};
pub use logging::{LogFile, init as init_logging};
pub use progress::{EntityProgress, Progress, ProgressMode};
pub use prompt::{confirm, password, type_to_confirm};
pub use terminal::{Align, Output, Table, print_error, printable, printable_json, wants_color};
