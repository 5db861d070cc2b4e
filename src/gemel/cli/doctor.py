"""gemel doctor."""

import typer


def doctor() -> None:
    """Show versions, devices and threads, try them out, and tell what is wrong with this machine."""
    from gemel.engine.doctor import examine

    findings = examine()
    width = max(len(one.what) for one in findings)
    for one in findings:
        advice = f"; {one.advice}" if one.advice else ""
        print(f"{one.level:5}  {one.what:{width}}  {one.text}{advice}")
    wrong = sum(one.level == "wrong" for one in findings)
    if wrong:
        print(f"\n{wrong} of {len(findings)} checks failed")
        raise typer.Exit(1)
    print("\nnothing is wrong")
