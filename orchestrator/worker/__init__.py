"""Workers: a supervisor process, its children, and the slots that execute tasks."""
