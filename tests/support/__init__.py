"""What tests share: servers, processes, streams, and the checks that several suites make."""
