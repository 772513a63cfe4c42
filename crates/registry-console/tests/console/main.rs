//! The web console as a browser sees it: the program, a real API server with the chart's policies, and real registries.

mod add;
mod bed;
mod browser;
mod edit;
mod live;
mod pages;
mod sign_in;
