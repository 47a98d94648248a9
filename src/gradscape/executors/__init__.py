"""Any callable over many jobs behind one face, `submit` → `Future`: here, in processes, threads, on Ray."""
