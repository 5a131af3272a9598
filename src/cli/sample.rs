//! `v1v2 sample`: fills an empty V1 with the example.

use super::{Context, Outcome, SampleArgs};
use crate::connect::{self, Side};
use crate::error::Result;
use crate::report::{Align, Event, Table};
use crate::sample::{self, SampleOptions};

pub(super) async fn run(context: &Context, args: &SampleArgs) -> Result<Outcome> {
    let mut v1 = connect::postgres(Side::V1, &context.settings).await?;
    let options = SampleOptions { people: args.people, seed: args.seed, orphans: args.orphans };
    let progress = context.progress.entity("sample", Some(args.people));
    let mut shown = 0;
    let mut advance = |people: u64| {
        progress.advance(people.saturating_sub(shown));
        shown = people;
    };
    let summary = sample::generate(&mut v1, &options, &mut advance).await;
    progress.finish();
    let summary = summary?;
    let value = serde_json::to_value(&summary).unwrap_or_default();
    // What is not there (orphans, without --orphans) need not be told.
    let mut table = Table::new([("made", Align::Left), ("rows", Align::Right)]);
    for (what, count) in
        value.as_object().into_iter().flatten().filter(|(_, count)| count.as_u64() != Some(0))
    {
        table.row([what.replace('_', " "), count.to_string()]);
    }
    context.output.table(&table);
    context.events.emit(&Event::Result { command: "sample".to_owned(), value });
    Ok(Outcome::Done)
}
