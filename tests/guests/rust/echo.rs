//! stdin to stdout through the 8 KiB buffer of the standard library.

fn main() -> std::io::Result<()> {
    std::io::copy(&mut std::io::stdin().lock(), &mut std::io::stdout().lock())?;
    Ok(())
}
