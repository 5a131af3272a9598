//! The hand-out list of generated passwords, and the check of one login.
