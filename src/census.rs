//! Who is who: decides every account before anything is written.
