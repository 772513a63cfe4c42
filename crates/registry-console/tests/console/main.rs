//! The web console as a browser sees it: the program, a real API server with the chart's policies, and real registries.

mod add;
mod api;
mod attacks;
mod bed;
mod browser;
mod cluster;
mod cluster_bed;
mod counter;
mod edit;
mod gate;
mod limits;
mod live;
mod pages;
mod relay;
mod secrecy;
mod shared_connections;
mod sign_in;
mod site;
mod stop;
mod verdicts;
