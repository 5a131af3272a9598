//! Doing it: step by step, with a note after each.

use std::time::{Duration, Instant};

use mongodb::bson::{Document, doc};
use mongodb::error::{Error as DriverError, ErrorKind};

use super::batches::{Change, Fault, Writer, begin, commit, pass_fence};
use super::bookkeeping::Book;
use super::command;
use crate::connect;
use crate::error::{Class, Error, Result, classify_mongodb, mongodb_code};
use crate::evolve::steps::{Doomed, Step};
use crate::evolve::{Direction, Job, Script, Watch, Work};
use crate::target::RunName;
use crate::target::mongodb::lock;
use crate::target::mongodb::session::LOCK;

/// Attempts of a step that is not cut into batches.
const ATTEMPTS: u32 = 8;

/// The error of a run that lost its lock.
pub(super) fn lost(place: &str) -> Error {
    lock::lost(place)
}

/// Codes whose messages speak of the pipeline or the command and of nothing in a document: FailedToParse, TypeMismatch,
/// InvalidNamespace, CannotCreateIndex, InvalidPipelineOperator, and of aggregation: unknown field, unknown stage, unknown
/// option, undefined variable. (`error_codes.yml` and the aggregation sources of the server.)
const ABOUT_THE_SCRIPT: [i32; 9] = [9, 14, 73, 67, 168, 40323, 40324, 40415, 17276];

/// An error of the driver, with the server's words where these can only be about the script.
pub(super) fn explained(place: &str, error: &DriverError) -> Error {
    let told = Error::mongodb(place, error);
    match (error.kind.as_ref(), mongodb_code(error)) {
        (ErrorKind::Command(command), Some(code)) if ABOUT_THE_SCRIPT.contains(&code) => {
            Error::failed(format!("{place}: {} [{code}]", command.message))
        }
        _ => told,
    }
}

/// Applies it or takes it back.
pub(super) async fn run(
    v2: &connect::MongoDb,
    (place, run): (&str, RunName),
    job: &Job<'_>,
    watch: &Watch,
) -> Result<()> {
    let failed = |error: DriverError| Error::mongodb(place, &error);
    let book = Book::new(&v2.database, job.evolution, run.id);
    book.begin(job).await.map_err(failed)?;
    let began = Instant::now();
    let work = async {
        let session = v2.client.start_session().await.map_err(failed)?;
        // So that whoever takes over from us when we are dead need not wait for our transaction to be given up.
        let fences = v2.database.collection::<Document>(LOCK);
        let ours = doc! { "_id": lock::fence(0), "run": run.number };
        let named = fences.update_one(ours, doc! { "$set": { "session": session.id().clone() } }).await;
        if named.map_err(failed)?.matched_count != 1 {
            return Err(lost(place));
        }
        let writer = Writer { v2, place, run, book: &book, session };
        if let Some(script) = job.script {
            steps(writer, script, job, watch).await?;
        }
        let took = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        if book.finish(job.direction, took).await.map_err(failed)? { Ok(()) } else { Err(lost(place)) }
    };
    let Err(error) = work.await else { return Ok(()) };
    // If it cannot be recorded, the record still says "running", and nobody holds the lock: that is told as well.
    if let Err(unsaid) = book.fail(error.message()).await {
        tracing::debug!("the failure could not be recorded: {}", Error::mongodb(place, &unsaid));
    }
    Err(error)
}

async fn steps(mut writer: Writer<'_>, script: &Script, job: &Job<'_>, watch: &Watch) -> Result<()> {
    let Work::Steps(steps) = &script.work else { return Ok(()) };
    let (first, begun) = (job.done(), job.resume.is_some_and(|record| record.begun));
    for (index, step) in steps.iter().enumerate().skip(first) {
        watch.check()?;
        let place = writer.place;
        let failed = |error: DriverError| Error::mongodb(place, &error);
        // A position in another collection means nothing.
        let same = job.resume.and_then(|record| record.step.as_ref()).is_none_or(|of| *of == step.title());
        let again = begun && index == first && same;
        if !again
            && !writer
                .book
                .begin_step(index, &script.checksum_of(index), &step.title())
                .await
                .map_err(failed)?
        {
            return Err(lost(place));
        }
        if again {
            tracing::info!("{}: going on with step {} ({})", job.evolution.name, index + 1, step.title());
        }
        let checksum = script.checksum_of(index + 1);
        let done = one(&mut writer, step, (index, again, &checksum), job, watch).await;
        done.map_err(|error| located(error, script, index, step, job))?;
        if !writer.book.end_step(index + 1, &checksum).await.map_err(failed)? {
            return Err(lost(place));
        }
    }
    Ok(())
}

/// The error with file and step, and how to go on.
fn located(error: Error, script: &Script, index: usize, step: &Step, job: &Job<'_>) -> Error {
    if error.kind() == crate::error::Kind::Interrupted {
        return error;
    }
    let message =
        format!("{}, step {} ({}): {}", script.file.label, index + 1, step.title(), error.message());
    let way = match job.direction {
        Direction::Up => "up",
        Direction::Down => "down",
    };
    let go_on = format!(
        "what is done of {} stays and is on record; remove the cause (this step of the script may be mended) and run `v1v2 evolve \
         {way}` again: it goes on where it stopped",
        job.evolution.name
    );
    Error::failed(message).help(match error.fix() {
        Some(fix) => format!("{fix}; {go_on}"),
        None => go_on,
    })
}

/// Does one step.
async fn one(
    writer: &mut Writer<'_>,
    step: &Step,
    (index, again, checksum): (usize, bool, &str),
    job: &Job<'_>,
    watch: &Watch,
) -> Result<()> {
    let (walked, change, pace) = match step {
        Step::Command(command) if command::is_write(command) => {
            return write(writer, command, (index, checksum)).await;
        }
        Step::Command(command) => return structure(writer, command, again).await,
        Step::Aggregate { collection, pipeline, pace: None } => {
            return aggregate(writer, collection, pipeline).await;
        }
        Step::Aggregate { collection, pipeline, pace: Some(pace) } => {
            (collection, Change::Aggregate(pipeline), *pace)
        }
        Step::Update { collection, filter, pipeline, pace } => {
            (collection, Change::Update(filter, pipeline), *pace)
        }
        Step::Delete { collection, which: Doomed::Matching(filter), pace } => {
            (collection, Change::Delete(filter), *pace)
        }
        Step::Delete { collection, which: Doomed::ListedIn(list), pace } => {
            (list, Change::DeleteFrom(collection), *pace)
        }
    };
    let all = writer.v2.database.collection::<Document>(walked);
    let total = all.estimated_document_count().await.map_err(|error| explained(writer.place, &error))?;
    let title = format!("{} step {}: {}", job.evolution.name, index + 1, step.title());
    let progress = watch.progress.entity(&title, Some(total));
    let done = writer.walk(walked, &change, pace, (watch, &progress)).await;
    progress.finish();
    done
}

/// A command that writes documents: in one transaction with the note that it is done.
async fn write(writer: &mut Writer<'_>, command: &Document, (index, checksum): (usize, &str)) -> Result<()> {
    let (command, _) = command::prepared(&writer.v2.database, command);
    let mut pause = Duration::from_millis(50);
    for attempt in 1.. {
        begin(&mut writer.session).await.map_err(|fault| told(writer.place, fault))?;
        let (v2, place, run) = (writer.v2, writer.place, writer.run);
        let session = &mut writer.session;
        let work = async {
            pass_fence(v2, place, run, session).await?;
            let answer = v2.database.run_command(command.clone()).session(&mut *session).await?;
            command::accepted(&answer, place).map_err(Fault::Ours)?;
            Ok::<bool, Fault>(writer.book.end_step_in(session, index + 1, checksum).await?)
        };
        let fault = match work.await {
            Ok(true) => match commit(&mut writer.session).await {
                Ok(()) => return Ok(()),
                Err(error) => Fault::Driver(error),
            },
            Ok(false) => {
                drop(writer.session.abort_transaction().await);
                // An earlier attempt whose commit was not answered.
                let done = writer.book.done().await.map_err(|error| explained(place, &error))?;
                return if usize::try_from(done) == Ok(index + 1) { Ok(()) } else { Err(lost(place)) };
            }
            Err(fault) => {
                drop(writer.session.abort_transaction().await);
                fault
            }
        };
        match fault {
            Fault::Driver(error) if classify_mongodb(&error) == Class::Transient && attempt < ATTEMPTS => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            fault => return Err(told(place, fault)),
        }
    }
    Ok(())
}

fn told(place: &str, fault: Fault) -> Error {
    match fault {
        Fault::Ours(error) => error,
        Fault::Driver(error) => explained(place, &error),
    }
}

/// A command on structure. `again`: it may have been done already.
async fn structure(writer: &Writer<'_>, command: &Document, mut again: bool) -> Result<()> {
    let (database, place) = (&writer.v2.database, writer.place);
    let mut pause = Duration::from_millis(50);
    for attempt in 1.. {
        match command::run(database, command, place).await {
            Ok(answer) => return answer,
            Err(error) if again && command::was_done(database, command, &error).await => return Ok(()),
            Err(error) if classify_mongodb(&error) == Class::Transient && attempt < ATTEMPTS => {
                // Whether it was done is not known.
                again = true;
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(explained(place, &error)),
        }
    }
    Ok(())
}

/// An aggregation as a whole. Its last stage can be repeated, so it is, if it must.
async fn aggregate(writer: &Writer<'_>, collection: &str, pipeline: &[Document]) -> Result<()> {
    let collection = writer.v2.database.collection::<Document>(collection);
    let mut pause = Duration::from_millis(50);
    for attempt in 1.. {
        let work = async {
            let mut found = collection.aggregate(pipeline.to_vec()).allow_disk_use(true).await?;
            while found.advance().await? {}
            Ok::<(), DriverError>(())
        };
        match work.await {
            Ok(()) => return Ok(()),
            Err(error) if classify_mongodb(&error) == Class::Transient && attempt < ATTEMPTS => {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            Err(error) => return Err(explained(writer.place, &error)),
        }
    }
    Ok(())
}
