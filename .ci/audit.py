"""Known vulnerabilities of requirements.lock, by pip-audit: found = exit code 1.

Where the vulnerability service does not answer, or answers for no package at all (some mirrors
serve packages but not that), nothing was audited: said loudly, and an error with AUDIT_REQUIRED=1.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

COMMAND = [
    *(sys.executable, "-m", "pip_audit", "--requirement", "requirements.lock"),
    *("--no-deps", "--disable-pip", "--progress-spinner", "off", "--timeout", "10", "--format", "json"),
]


def main() -> int:
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=300)
        found = json.loads(done.stdout)["dependencies"]
    except subprocess.TimeoutExpired:
        return not_audited("no answer within 5 minutes")
    except (json.JSONDecodeError, KeyError):
        return not_audited((done.stderr.strip().splitlines() or ["no output"])[-1])
    audited = [package for package in found if "skip_reason" not in package]
    for package in audited:
        for problem in package["vulns"]:
            fixed = ", ".join(problem["fix_versions"]) or "no version yet"
            print(f"{package['name']} {package['version']}: {problem['id']}, fixed in {fixed}")
    if any(package["vulns"] for package in audited):
        return 1
    if not audited:
        return not_audited(found[0]["skip_reason"] if found else "requirements.lock is empty")
    print(f"{len(audited)} of {len(found)} packages audited, no known vulnerability")
    return 0


def not_audited(reason: str) -> int:
    print(f"NOT AUDITED: the vulnerability service did not answer for any package ({reason})")
    return int(os.environ.get("AUDIT_REQUIRED") == "1")


if __name__ == "__main__":
    sys.exit(main())
