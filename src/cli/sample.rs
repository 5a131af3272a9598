//! `v1v2 sample`: fills an empty V1 with the example.

use super::{Context, Outcome, SampleArgs};
use crate::connect::{self, Side};
use crate::error::Result;
use crate::report::Event;
use crate::sample::{self, SampleOptions};

pub(super) async fn run(context: &Context, args: &SampleArgs) -> Result<Outcome> {
    let mut v1 = connect::postgres(Side::V1, &context.settings).await?;
    let options = SampleOptions { people: args.people, seed: args.seed, orphans: args.orphans };
    let progress = context.progress.entity("sample", Some(args.people));
    let summary = sample::generate(&mut v1, &options, &mut |people| progress.advance(people)).await;
    progress.finish();
    let summary = summary?;
    if let Ok(value) = serde_json::to_value(&summary) {
        context.events.emit(&Event::Result { command: "sample".to_owned(), value });
    }
    context.output.line(summary.to_string());
    Ok(Outcome::Done)
}
